"""Several processes: launching them, connecting them, what each of them knows."""
