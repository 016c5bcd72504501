package membucket_test

import (
	"testing"

	"sharefs/versions/tier"
	"sharefs/versions/tier/membucket"
	"sharefs/versions/tier/tiertest"
)

func TestBucket(t *testing.T) {
	tiertest.Bucket(t, func(*testing.T) tier.Bucket { return &membucket.Bucket{} })
}

func TestRetryingBucket(t *testing.T) {
	tiertest.Bucket(t, func(*testing.T) tier.Bucket { return tier.Retry(&membucket.Bucket{}, 3) })
}
