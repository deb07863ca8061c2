"""What every service that answers over HTTP needs: the server, the app, access control, websockets, and running it all
until told to stop."""
