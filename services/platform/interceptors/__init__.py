"""The steps around every call, on the server's side and on the client's.

`pipeline` is the one interceptor of a server; it takes the steps in order: observe, deadline, authenticate, map
errors, validate, pack the answer. Each step is a module here and can be read alone. `client` is the other side: what a
service sends along when it calls another one.
"""
