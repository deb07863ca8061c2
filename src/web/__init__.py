"""What every HTTP service needs: the server, the app, access control, websockets, running until stopped."""
