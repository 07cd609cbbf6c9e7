"""For researchers: simulation, the zoo of networks, the paper made again."""
