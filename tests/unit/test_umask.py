"""A test that sets the umask does not set it for the next one."""

import os


def test_one_sets_it():
    os.umask(0o077)


def test_the_next_one_has_its_own():
    os.umask(own := os.umask(0o022))
    assert own != 0o077
