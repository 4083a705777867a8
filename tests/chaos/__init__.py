"""Faults at random under load, and the proof that nothing was lost, swapped, invented or done twice.

    options   the command line                     stack    servers, proxies and processes
    plan      which faults come when: from a seed  faults   how each kind begins and ends
    driver    the load, and its own record         record   what was asked and what was answered
    judge     the record against Postgres and Kafka         effects  mails, rewards and positions
    storm     one run from its start to its verdict         report   the table and the JSON"""
