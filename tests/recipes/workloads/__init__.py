"""What applications do with the recipes, as the fault matrix runs it: one workload for each recipe."""
