"""What tests share: made-up data, servers, stand-ins; each file says what it makes."""
