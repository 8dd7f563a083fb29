"""The parts that both clients share: requests, parsing of answers, retries. No I/O."""
