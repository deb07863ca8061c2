/** The form in place of the page: posts the token for a cookie, and loads the page. */

const form = document.getElementById("login");
const message = document.getElementById("message");

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  message.textContent = "";
  const token = document.getElementById("token").value.trim();
  try {
    const response = await fetch("/login", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ token }),
    });
    if (response.ok) location.reload();
    else message.textContent = response.status === 401 ? "That token is not valid, or not for reading." : "The token cannot be checked now.";
  } catch {
    message.textContent = "The page's service does not response.";
  }
});
