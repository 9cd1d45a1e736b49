"""What any daemon needs; knows nothing of NATS or FreeSWITCH."""
