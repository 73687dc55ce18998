"""The schedules of other libraries by their own names and signatures, each a schedule of this one. A library a file.

`from multisched.dialects import torch`; none of the libraries is imported.
"""
