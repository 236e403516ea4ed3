"""``baozi prove --danger``: small apps that have a danger of the doctor, and the loss that they show."""
