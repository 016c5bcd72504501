# What each target does stands in its script.
.PHONY: build run test lint bench soak

build: # bin/sharefs-mount and bin/sharefs
	@scripts/build

run: # install what is missing, build, mount ~/Share
	@scripts/run

test: # everything that has to hold, in at most a quarter of an hour
	@scripts/test

lint: # gofmt, vet, staticcheck
	@scripts/lint

bench: # beside the disk and go-fuse's loopback; needs root
	@scripts/bench $(ARGS)

soak: # hours: long random runs, outside suites, crashes
	@scripts/soak $(ARGS)
