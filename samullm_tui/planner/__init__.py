"""Plans: greedy and the baselines, ranked over sampled lengths, with a lower bound and reasons in words."""
