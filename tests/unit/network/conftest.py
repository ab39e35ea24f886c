from unit.network.scene import scene, servers

__all__ = ["scene", "servers"]
