"""When things happen: the clock, backoff and the scheduler. Clock and randomness are passed in."""
