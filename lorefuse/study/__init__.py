"""The honesty harness: did knowledge help, where, by how much, and was it the knowledge?"""
