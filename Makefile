# The work is done by tools/dev.py, which also runs without make. `make help` lists the commands.
#   make lab ARGS=--no-browser      make test ARGS="-k vae"      make lab PYTHON=python3.12

COMMANDS := lab test lint fuzz monkey mutants course notebooks exam translate lesson web site slides wheel badges bundle bundle-check lock clean distclean
.PHONY: help $(COMMANDS)
.DEFAULT_GOAL := help

# The user's own python3 if it is new enough, else the newest there is. (Asked to run, not only to exist: pyenv's names always exist.)
ifndef PYTHON
PYTHON := $(shell for p in python3 python3.13 python3.12 python3.11 python3.10 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null && echo $$p && break; done)
endif

help $(COMMANDS):
	@test -n "$(PYTHON)" || { echo "Python 3.10 or newer is needed, and none was found ($$(python3 --version 2>&1 | head -n 1))."; \
	  echo "Install one from python.org or with your system's packages, or name it: make $@ PYTHON=/path/to/python3.12"; exit 1; } >&2
	@"$(PYTHON)" tools/dev.py $@ $(if $(filter badges,$@),$(if $(filter undefined,$(origin REPO)),,"$(REPO)")) $(ARGS)
