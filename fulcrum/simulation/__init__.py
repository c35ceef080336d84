"""The outside world in small: what stands in for providers, and the pure core under a virtual clock."""
