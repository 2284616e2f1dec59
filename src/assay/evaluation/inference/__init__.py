"""What reading and generating cost: the calls, the clock and the memory of the measurement `inference`."""
