"""Programs that drive a system: each measures by itself and prints one line of JSON."""
