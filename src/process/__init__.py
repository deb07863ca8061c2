"""What every process needs: settings, logs, traces, metrics, health, clocks, TLS, files that survive a power cut."""
