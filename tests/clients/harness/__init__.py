"""What the client tests stand on: the server under test, content, signed and raw requests."""
