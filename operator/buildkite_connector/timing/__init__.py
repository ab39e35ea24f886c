"""When things happen: the clock, backoff, slots. Clock and randomness are passed in."""
