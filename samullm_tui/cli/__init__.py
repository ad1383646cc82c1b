"""The command line: one command per verb, thin. See the contract in docs/commands.md."""
