"""Evidence to hand over: the proof of one event, the pack of many, and the checks of both that need neither store nor index.

What is proven is inclusion: these bytes are in the tree that this checkpoint signs. That nothing else matched a question is the
statement of whoever exported. This package must not decide what is asked; `agent.reader.ask` does.
"""
