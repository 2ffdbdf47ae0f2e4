"""Transport: zmq sockets, the cluster's directory, the connection file."""
