"""When things happen: the clock and backoff, slots, what servers say of time. Clock and randomness are passed in."""
