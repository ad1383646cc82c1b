"""What generates tokens: the engine protocol, vLLM servers as subprocesses, simulated engines, and the keeper."""
