"""The method's second idea: the bank and the two training stages."""
