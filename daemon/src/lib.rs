//! Not there yet: see the changelog for what stands.
