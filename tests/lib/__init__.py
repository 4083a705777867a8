"""The test harness: private Postgres and Kafka, the service under test, a client that remembers every answer, a Kafka
reader, and the checker that compares answers, events table and Kafka after every end-to-end test.

fixtures.py is where to begin; a test sees only its fixtures and the objects they give."""
