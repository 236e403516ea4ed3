"""The migrations, oldest first: ``version_N`` leads from version N - 1 to version N."""
