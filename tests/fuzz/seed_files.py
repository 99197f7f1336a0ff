"""How make_*seeds.py write their seeds:  make_NAME_seeds.py CORPUS"""
import os
import sys


def write(corpus, target, seeds):
    """Each of the seeds, pairs of a name and its bytes, becomes a file in CORPUS/TARGET."""
    os.makedirs(os.path.join(corpus, target), exist_ok=True)
    for name, data in seeds:
        with open(os.path.join(corpus, target, name), 'wb') as f:
            f.write(data)


def corpus():
    """The corpus that the command line names."""
    if len(sys.argv) != 2:
        sys.exit('usage: %s CORPUS' % os.path.basename(sys.argv[0]))
    return sys.argv[1]
