"""What takes torch's place on a CPU for speed; each has a plain form that it must equal, and a switch back to it."""
