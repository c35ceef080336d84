"""The services that carry out commands: payment and inventory, and the outside world in small."""
