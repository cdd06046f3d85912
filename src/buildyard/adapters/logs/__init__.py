"""Log stores: growing logs on the local disk, sealed ones there or in an object store."""
