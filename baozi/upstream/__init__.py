"""All changes to the behaviour of Celery, kombu and billiard: one file for each."""
