"""What every service's shell needs: settings, logs, health, the HTTP app, and running until told to stop."""
