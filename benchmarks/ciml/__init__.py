"""Where the lesion is: CIML beside other networks, what its messages say, how fast it trains."""
