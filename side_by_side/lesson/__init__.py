"""The lesson: real runs are recorded, and one page replays them."""
