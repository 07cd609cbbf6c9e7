"""From the table of every site to the plan."""
