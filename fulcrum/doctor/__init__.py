"""Does everything hold that must hold? At rest, checked in whole; on a live system, without loading it."""
