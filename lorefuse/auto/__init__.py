"""Which pipeline suits the data: a portfolio of configurations that won somewhere, and a race between them."""
