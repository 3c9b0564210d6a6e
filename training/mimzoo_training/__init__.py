"""Recipes, the runner and the command line of mimzoo. The library itself never imports this."""
