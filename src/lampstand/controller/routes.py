"""Routes: which servers get traffic, as nginx include files. Pure; the controller writes and reloads what this returns.

A route file is a live file of a balancer or gateway instance: first written empty-handed at creation, from then on by
the controller. Who is named in it depends on roles and health, never on the site file, so it is outside every hash.
"""
