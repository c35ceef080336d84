"""What a process tells about itself: log lines, trace context, metrics, health."""
