"""Item text → prompt → encoder → pooling → vectors, each addressed by its content and encoded once."""
