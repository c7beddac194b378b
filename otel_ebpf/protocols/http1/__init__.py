"""HTTP/1: requests and responses overheard on a connection, from bytes at positions to exchanges."""
