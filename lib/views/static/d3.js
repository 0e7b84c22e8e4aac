// The parts of d3 that the views use. d3 is not a module: its file puts everything into the global object.

import "mdal/vendor/d3/d3.min.js";

export const { interpolateViridis, quadtree, scaleLinear, select, zoom, zoomIdentity } = globalThis.d3;
