"""What a finished run says about its forecast. Pure: the observed values are put into the simulator one after another."""
