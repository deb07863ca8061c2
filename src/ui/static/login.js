/** The form in place of the page: posts the token, which is answered with a cookie, and loads the page. */

const form = document.getElementById("login");
const told = document.getElementById("told");

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  told.textContent = "";
  const token = document.getElementById("token").value.trim();
  try {
    const answer = await fetch("/login", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ token }),
    });
    if (answer.ok) location.reload();
    else told.textContent = answer.status === 401 ? "That token is not valid, or not for reading." : "It cannot be checked now.";
  } catch {
    told.textContent = "The page's service does not answer.";
  }
});
