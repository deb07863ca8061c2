"""What every process needs: settings, logs, traces, metrics, health, the clock, TLS, files that outlive a power cut."""
