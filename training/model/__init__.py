"""What training fits and a bundle stores: numpy and LightGBM's library, nothing else."""
